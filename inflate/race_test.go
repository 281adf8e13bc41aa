//go:build race

package inflate

func init() { raced = true }
