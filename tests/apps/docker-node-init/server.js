const fs = require("node:fs");
const os = require("node:os");

const version = (manager) => `${manager} ${fs.readFileSync(`/${manager}.txt`, "utf8").trim()}`;
const { username, homedir } = os.userInfo();
require("node:http")
  .createServer((request, response) => response.end(`${username} in ${homedir}, ${version("yarn")}, ${version("pnpm")}`))
  .listen(process.env.PORT);
