// Package static has the files that pages load.
package static

import "embed"

// Files are all of them.
//
//go:embed *.css *.js *.svg *.txt novnc-1.7.0
var Files embed.FS
