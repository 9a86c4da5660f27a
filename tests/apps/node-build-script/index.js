const fs = require("node:fs");
const http = require("node:http");

const page = fs.readFileSync("page.txt", "utf8");
const pruned = !fs.existsSync("node_modules/is-odd");
http
  .createServer((request, response) => response.end(`${page}, dev dependency pruned: ${pruned}`))
  .listen(process.env.PORT);
