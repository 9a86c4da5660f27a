const http = require("node:http");

http
  .createServer((request, response) => response.end(`started by a script: ${process.env.NODE_ENV}`))
  .listen(process.env.PORT, () => console.log("ready"));
