const http = require("node:http");

http
  .createServer((request, response) => response.end("never seen"))
  .listen(process.env.PORT, () => console.log("ready"));
