package e2e

import "holdfast/internal/api"

// ask asks the agent of a host over its socket, as the command line does there. What is asked again
// and again is asked so: a program for each question takes more than a tenth of a second of a processor.
func ask[A any](r *rig, h string, question func(*api.Client) (A, error)) (a A, err error) {
	socket, err := r.lab.RootPath(h, agentSocket)
	if err != nil {
		return a, err
	}
	return askAt(socket, question)
}

// askAt asks the agent that listens at a socket of this machine.
func askAt[A any](socket string, question func(*api.Client) (A, error)) (a A, err error) {
	c, err := api.Dial("unix:"+socket, nil)
	if err != nil {
		return a, err
	}
	defer c.Close()
	return question(c)
}

// agentSocket is where an agent listens on its host.
const agentSocket = "/run/holdfast/holdfast.sock"
