-- LogLineOS @before@ to @version@.
-- Generated from sql/src by scripts/sqlbuild. Do not edit.
\echo Use "alter extension loglineos update" to load this file. \quit

