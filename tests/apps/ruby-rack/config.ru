run ->(env) { [200, { "content-type" => "text/plain" }, ["rack in #{ENV["RACK_ENV"]}"]] }
