// Package web is the console: pages for people, made on the host that serves them. It is a client of the API, by calls
// within the process and by the role of who has logged in, and decides nothing: what it says of the cluster is what
// package told says, and the sentences of the API's answers.
//
// Pages are made by templ (*.templ, and *_templ.go by go generate). What changes by itself comes by Server-Sent Events
// (live.go), and takes the place of the part of the page that it is about. There is no request to another site, no
// script in a page, and no build chain: static/ has htmx and its extension for events as they are published.
// What all pages have in common is in package layout.
package web

//go:generate go run github.com/a-h/templ/cmd/templ@v0.3.1100 generate
