package store

import "fmt"

// Bounds of a value that a host of limited rights writes. Three bytes of JSON ("{},") can be half a kilobyte for who reads
// them, and all members and agents do: 174,000 guests in 512 KiB took 500 MB. Honest reports have 2,000 guests at most, and
// records of steps some thousand packages.
const (
	maxDepth    = 64
	maxArray    = 8192  // elements of one array
	maxElements = 20480 // of all arrays
)

// Light refuses a value of JSON with more in its arrays than honest ones have, before anybody decodes it. What is not JSON
// at all is for others to refuse.
func (a Attempt) Light() error {
	switch one, all, ok := elements(a.Value); {
	case !ok:
		return fmt.Errorf("%w: more than %d lists in each other", ErrTooLarge, maxDepth)
	case one > maxArray || all > maxElements:
		return fmt.Errorf("%w: at most %d elements of a list and %d in all are allowed", ErrTooLarge, maxArray, maxElements)
	}
	return nil
}

// elements are at least as many as the largest array of a value of JSON has, and all together; an empty array counts as
// one element. ok is false for what is deeper than maxDepth.
func elements(value []byte) (one, all int, ok bool) {
	var open [maxDepth]int // elements of each array that is open; 0: an object
	depth, text := 0, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '[' || c == '{':
			if depth == maxDepth {
				return one, all, false
			}
			open[depth] = 0
			if c == '[' {
				open[depth] = 1 // the comma of the second makes two
				one, all = max(one, 1), all+1
			}
			depth++
		case (c == ']' || c == '}') && depth > 0:
			depth--
		case c == ',' && depth > 0 && open[depth-1] > 0:
			open[depth-1]++
			one, all = max(one, open[depth-1]), all+1
		}
	}
	return one, all, true
}
