#!/bin/sh
# Fills the environment in where the official image does: every
# /etc/nginx/templates/NAME.template becomes /etc/nginx/conf.d/NAME. Only names
# that are set: nginx has variables of its own.
set -eu
names=$(env -0 | cut -z -d= -f1 | tr '\0' '\n' | sed 's/.*/${&}/' | tr '\n' ' ')
for template in /etc/nginx/templates/*.template; do
    [ -e "$template" ] || continue
    name=${template##*/}
    envsubst "$names" <"$template" >"/etc/nginx/conf.d/${name%.template}"
done
exec "$@"
