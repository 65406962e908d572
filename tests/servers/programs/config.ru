# Reports how Rack reads a request. The path is normalised as Rails' router does.
require 'json'
require 'rack'

use Rack::MethodOverride
run(lambda do |env|
  request = Rack::Request.new(env)
  fields = env.select { |name, value| name.start_with?('HTTP_') && value.is_a?(String) }
  report = {
    method: env['REQUEST_METHOD'],
    path: Rack::Utils.unescape_path(env['PATH_INFO']).squeeze('/'),
    query: request.GET,
    fields: fields,
    content: env['rack.input'].tap(&:rewind).read.bytesize
  }
  [200, { 'Content-Type' => 'application/json' }, [JSON.generate(report)]]
end)
