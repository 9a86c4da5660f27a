const ms = require("ms");

require("node:http")
  .createServer((request, response) => response.end(`two days are ${ms("2 days")} ms`))
  .listen(process.env.PORT);
