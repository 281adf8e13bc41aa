// Package service stops and starts a service of this machine: by systemd's D-Bus API, or by
// a command of the user's.
package service

import "context"

// Service is a service that runs.
type Service interface {
	// String names the service for people.
	String() string
	// Stop returns when the service has stopped, and nothing starts it by itself.
	Stop(context.Context) error
	// Start starts the service, and what Stop has stopped with it.
	Start(context.Context) error
	// Dependents are other services that stop with it.
	Dependents() []string
}
