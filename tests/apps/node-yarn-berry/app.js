'use strict'

module.exports = async function (fastify, opts) {
  fastify.get('/', async function (request, reply) {
    let pruned = false
    try {
      require('is-odd')
    } catch {
      pruned = true
    }
    return { root: true, pruned }
  })
}
