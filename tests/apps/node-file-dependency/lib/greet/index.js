module.exports = (name) => `greetings from a ${name}: ${require("is-odd")(3)}`;
