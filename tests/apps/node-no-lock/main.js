const odd = require("is-odd");
const http = require("node:http");

http
  .createServer((request, response) => response.end(`odd: ${odd(3)}`))
  .listen(process.env.PORT, () => console.log("ready"));
