# Says hello from Rack. puma is started because the Gemfile lists it.
release = ENV.fetch("PAAS_RELEASE", "no release")

run lambda { |_env|
  [200, { "content-type" => "text/plain; charset=utf-8" }, ["Hello from Ruby, release #{release}!\n"]]
}
