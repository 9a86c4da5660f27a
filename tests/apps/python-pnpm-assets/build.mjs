import { mkdirSync, writeFileSync } from "node:fs";
import kleur from "kleur";
mkdirSync("dist", { recursive: true });
writeFileSync("dist/app.js", `// bold: ${typeof kleur.bold}, for ${process.env.NODE_ENV}\n`);
