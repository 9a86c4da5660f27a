const fs = require("fs");
fs.mkdirSync("dist", { recursive: true });
fs.writeFileSync("dist/app.js", "// built by node in " + process.env.NODE_ENV + "\n");
