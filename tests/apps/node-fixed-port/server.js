const http = require("node:http");

http
  .createServer((request, response) => response.end("my own port"))
  .listen(3000, () => console.log("ready"));
