// Package static has the files that pages load.
package static

import "embed"

// Files are all of them.
//
//go:embed *
var Files embed.FS
