const fs = require("fs");
const kleur = require("kleur");
fs.mkdirSync("css", { recursive: true });
fs.writeFileSync("css/site.css", `/* bold: ${typeof kleur.bold} */ h1 { color: teal; }\n`);
