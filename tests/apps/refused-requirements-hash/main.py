import bottle
bottle.run()
