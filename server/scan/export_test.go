package scan

import "time"

// HoldBack sets how long the end of a content is held back.
func (c *Clamd) HoldBack(d time.Duration) { c.heldBack = d }
