package doctor

import "context"

// registries asks a registry, step by step as a pull would.
func registries(context.Context, *exam) {}
