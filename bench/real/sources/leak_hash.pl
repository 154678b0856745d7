# A hash by session that is never emptied. Arguments: seconds, MiB to lose.
use strict;
use warnings;
use Time::HiRes qw(time sleep);

my ($seconds, $mib) = @ARGV;
my (%session, $owed, $last, $next) = ();
($owed, $last, $next) = (0, time, 0);
while (1) {
    my $now = time;
    $owed += ($now - $last) * $mib * 1048576 / $seconds;
    $last = $now;
    while ($owed > 0) {
        my $size = 200 + int rand 3000;
        $session{$next++} = { user => "u$next", page => "x" x $size };
        $owed -= $size + 500;
    }
    sleep 0.1;
}
