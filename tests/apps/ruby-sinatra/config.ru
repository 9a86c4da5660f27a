require "sinatra"

get("/:name") { "sinatra sings for #{params[:name]}" }
run Sinatra::Application
