-- LogLineOS @version@ as an extension.
-- Generated from sql/src by scripts/sqlbuild. Do not edit.
\echo Use "create extension loglineos" to load this file. \quit

