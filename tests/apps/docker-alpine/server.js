const { readFileSync } = require("node:fs");
const { userInfo } = require("node:os");
const ms = require("ms");

const made = readFileSync("made.txt", "utf8").trim();
const text = `${userInfo().username} for ${ms("2 days")}, ${made}`;
require("node:http").createServer((request, response) => response.end(text)).listen(3000);
