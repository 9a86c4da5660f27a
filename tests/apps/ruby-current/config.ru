require "paas_ahoy"

run ->(env) { [200, { "content-type" => "text/plain" }, ["#{PaasAhoy.greet("Ruby")} #{RUBY_VERSION}"]] }
