const express = require('express')
const fs = require('fs')

const app = express()
app.get('/', (req, res) => res.send(`pnp ${Boolean(process.versions.pnp)}, node_modules: ${fs.existsSync('node_modules/express')}`))
app.listen(process.env.PORT)
