package cli

import (
	"errors"
	"net"

	"holdfast/internal/cli/command"
)

// ofAgent says whether an error is of the agent's own socket, where nobody names another one, and not of one such as a database's.
func ofAgent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Addr != nil && op.Addr.String() == command.DefaultSocket
}
