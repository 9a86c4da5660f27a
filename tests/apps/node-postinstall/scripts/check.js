require("node:fs").accessSync("generated.json");
