"""The commands of `parley`: words in, `operate`, `wiring` or `lab` called, words out."""
