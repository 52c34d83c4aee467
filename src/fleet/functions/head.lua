#!lua name=acg1

-- What the shared tier of atlas-cert-gateway runs in Valkey or Redis. Nothing else may be run by its user.
-- Times are milliseconds of the server's clock.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Adds an event to the stream and rings the bell. Each event has a number, so that a gap is seen; beside the stream
-- lie the number and the id of the last one.
local function note_event(events_key, last_key, kind, event, bell)
  local last = redis.call('GET', last_key) or ''
  local number = (tonumber(last:match('^%d+')) or 0) + 1
  local fields = {'n', number, 't', now_ms(), 'k', kind, 'e', event}
  local id = redis.call('XADD', events_key, 'MAXLEN', '~', 10000, '*', unpack(fields))
  redis.call('SET', last_key, string.format('%d %s', number, id))
  redis.call('PUBLISH', bell, 'events')
  return number
end

local function register(name, callback, flags)
  redis.register_function{function_name = 'acg1_' .. name, callback = callback, flags = flags}
end
