import { mkdirSync, writeFileSync } from 'node:fs'
import isOdd from 'is-odd'

mkdirSync('dist', { recursive: true })
writeFileSync('dist/index.js', `export const greet = (name) => \`hello \${name}, built: ${isOdd(1)}\`\n`)
