const { mkdirSync, writeFileSync } = require('fs')

const { GIT_REV = '', SOURCE_VERSION = '' } = process.env
mkdirSync('dist', { recursive: true })
writeFileSync('dist/about.json', JSON.stringify({ digits: GIT_REV.length, same: GIT_REV === SOURCE_VERSION }))
