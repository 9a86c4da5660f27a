require "paas_ahoy"

run ->(_env) { [200, { "content-type" => "text/plain" }, [PaasAhoy.greet("MARKER")]] }
