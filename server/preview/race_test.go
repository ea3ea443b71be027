//go:build race

package preview

const races = true
