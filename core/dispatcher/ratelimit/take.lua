-- Counts hits by counters: KEYS are the counters; ARGV are, for each, its limit, its time in microseconds and its hits. Returns,
-- for each, whether they were counted, how many more would be, and in how many microseconds what was counted lapses.
-- A counter is a hash: w is the number of its window, c what that took, p what the one before took.
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local out = {}
for i, key in ipairs(KEYS) do
  local limit, per, hits = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local number, at = math.floor(now / per), now
  local had = redis.call('HMGET', key, 'w', 'c', 'p')
  local w, c, p = tonumber(had[1]), 0, 0
  if w == number then
    c, p = tonumber(had[2]), tonumber(had[3])
  elseif w == number - 1 then
    p = tonumber(had[2])
  elseif w == number + 1 then -- the clock was set back a little
    c, p = tonumber(had[2]), tonumber(had[3])
    number, at = number + 1, (number + 1) * per
  end
  local left = per - (at - number * per)
  local before = math.floor(p * left / per)
  local used = before + c
  local ok, reset = 0, left
  if hits <= 0 or used + hits <= limit then
    if hits ~= 0 then
      c = math.max(c + hits, 0)
      used = before + c
      redis.call('HSET', key, 'w', number, 'c', c, 'p', p)
      redis.call('PEXPIRE', key, math.ceil(2 * per / 1000))
    end
    if hits ~= 0 or used < limit then ok = 1 end
  elseif used >= limit then
    if c < limit and limit > 0 then
      reset = math.max(left - math.floor((limit - c) / p * per), 0) + 1
    elseif limit > 0 then
      reset = left + math.max(per - math.floor(limit / c * per), 0) + 1
    end
  end
  out[3 * i - 2], out[3 * i - 1], out[3 * i] = ok, math.max(limit - used, 0), math.floor(reset)
end
return out
