package phases

// InUse is the refusal of a key that is leased for left more of a whole lease.
var InUse = inUse
