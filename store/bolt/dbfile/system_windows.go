package dbfile

// roomToGrow is 0: on Windows the file itself would be enlarged to that size at
// once.
const roomToGrow = 0

// replacesOpen says whether a file can be replaced while it is open.
const replacesOpen = false
