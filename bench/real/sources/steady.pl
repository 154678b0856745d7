# Reads, counts and forgets: a log processor at steady load. No arguments.
use strict;
use warnings;
use Time::HiRes qw(sleep);

while (1) {
    my %count;
    for (1 .. 4000) {
        my $line = join " ", map { int rand 5000 } 1 .. 12;
        $count{$_}++ for split / /, $line;
    }
    my @top = (sort { $count{$b} <=> $count{$a} } keys %count)[0 .. 9];
    sleep 0.7;
}
