package doctor

import "context"

// stuck looks for decompressors that make no progress, and who waits for them.
func stuck(context.Context, *exam) {}
