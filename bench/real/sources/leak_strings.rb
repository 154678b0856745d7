# An array in a constant, appended to by each request. Arguments: seconds, MiB to lose.
SEEN = []
seconds, mib = ARGV.map(&:to_f)
owed, last = 0.0, Process.clock_gettime(Process::CLOCK_MONOTONIC)
loop do
  now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  owed += (now - last) * mib * 1048576 / seconds
  last = now
  while owed > 0
    size = 100 + rand(4000)
    SEEN << "x" * size
    owed -= size + 60
  end
  200.times { |i| "garbage #{i}" * 20 }
  sleep 0.1
end
