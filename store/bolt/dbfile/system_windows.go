package dbfile

// roomToGrow is none: here the file itself would be made as large at once.
const roomToGrow = 0

// replacesOpen says whether a file that is open can be replaced by another.
const replacesOpen = false
