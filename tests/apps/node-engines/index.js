const http = require("node:http");

http
  .createServer((request, response) => response.end(`range satisfied: ${Number(process.versions.node.split(".")[0]) >= 18}`))
  .listen(process.env.PORT, () => console.log("ready"));
