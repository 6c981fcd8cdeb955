package session_test

import (
	"testing"

	"github.com/octomesh/octomesh/core/proxy/session"
)

func TestRestsEndOnceForWhomeverTheySuit(t *testing.T) {
	c := session.NewClock()
	woken := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	session.Wake(c) // nobody rests
	wake := c.Rest()
	if woken(wake) {
		t.Fatal("a wake from before the rest ended it")
	}
	session.Wake(c)
	session.Wake(c)
	if !woken(wake) || woken(wake) {
		t.Fatal("two calls did not end one rest once")
	}
	wake = c.Rest()
	c.Resume() // nobody was meanwhile
	session.Wake(c)
	if woken(wake) {
		t.Fatal("a rest that was given up was ended")
	}
	c.Rest()
	session.Wake(c) // between the rest's begin and the look at what came before
	c.Resume()
	wake = c.Rest()
	if woken(wake) {
		t.Fatal("the wake of the rest before ended this one")
	}
	session.Wake(c)
	if !woken(wake) {
		t.Fatal("nobody ended the last rest")
	}
}
