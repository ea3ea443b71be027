package backup

// openAtOnce is 0: on Windows, the name of a file never opens a FIFO.
const openAtOnce = 0

// cannotSync returns false, since syncFolder has no errors on Windows.
func cannotSync(error) bool { return false }
