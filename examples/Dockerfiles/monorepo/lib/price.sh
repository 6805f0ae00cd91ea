# Sourced by the api and the worker.
price() { echo $(($1 * 3)); }
