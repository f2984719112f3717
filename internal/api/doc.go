// Package api is the agent's API as its clients see it: the client, the
// conversion between the wire's messages (v1, generated) and the domain's
// types, and the one table that ties kinds of errors to wire codes and to exit
// codes. It decides nothing and serves nothing.
package api

//go:generate -command gen protoc -I v1 --go_out=v1 --go_opt=paths=source_relative --connect-go_out=v1
//go:generate gen --connect-go_opt=paths=source_relative,simple holdfast.proto upgrade.proto agent.proto
//go:generate gen --connect-go_opt=paths=source_relative,simple pair.proto access.proto notification.proto host.proto screen.proto
