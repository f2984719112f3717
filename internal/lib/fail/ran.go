package fail

import "fmt"

// Ran is the end of a command that ran another one for its caller: its exit code is the other's, which has said
// what was wrong.
type Ran struct{ Code int }

func (e *Ran) Error() string { return fmt.Sprintf("exit code %d", e.Code) }
