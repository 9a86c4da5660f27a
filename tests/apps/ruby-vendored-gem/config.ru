require "paas_ahoy"

run ->(env) { [200, { "content-type" => "text/plain" }, ["vendored: #{PaasAhoy.greet("matey")}"]] }
