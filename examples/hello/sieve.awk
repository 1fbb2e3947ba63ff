# The prime numbers below `limit`: work that one would rather not do twice.
BEGIN {
    for (n = 2; n < limit; n++) {
        if (n in composite) continue
        print n
        for (m = n * n; m < limit; m += n) composite[m]
    }
}
