const http = require("node:http");

http
  .createServer((request, response) => response.end("lone entry file"))
  .listen(process.env.PORT, () => console.log("ready"));
